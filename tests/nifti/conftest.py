"""nibabel reports every odd field to its log; here all of them are odd on purpose."""

import logging

logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)
