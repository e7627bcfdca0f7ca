"""The trainer of `mroi.nnunet`, where nnU-Net looks for it."""

from mroi.nnunet import nnUNetTrainerMroi

__all__ = ["nnUNetTrainerMroi"]
