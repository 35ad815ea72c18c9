#!/usr/bin/env python3
"""Makes the fonts in this folder from the Debian packages named in README.md.

Usage: subset.py FOLDER, where FOLDER holds the unpacked packages (`dpkg-deb -x PACKAGE.deb FOLDER`).
Needs fonttools. Keeps printable ASCII, outlines and the old `kern` table; drops hints and layout features,
which the renderer does not read. Every font is renamed, because two of the licences ask for it.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

# file made: (family name given, file it is made from, licence)
FONTS = {
    "sans.ttf": ("Rebound Sans", "lato/Lato-Black.ttf", "OFL-1.1, LICENSE-sans.txt"),
    "serif.ttf": ("Rebound Serif", "liberation2/LiberationSerif-Bold.ttf", "OFL-1.1, LICENSE-serif.txt"),
    "condensed.ttf": ("Rebound Condensed", "roboto/unhinted/RobotoCondensed-Bold.ttf", "Apache-2.0"),
    "slab.otf": ("Rebound Slab", "roboto/slab/RobotoSlab-Bold.otf", "Apache-2.0"),
    "wide.ttf": ("Rebound Wide", "open-sans/OpenSans-ExtraBold.ttf", "Apache-2.0"),
}
KEPT_NAMES = (0, 7, 8, 9, 11, 12, 13, 14)  # copyright, trademark, makers and their addresses, licence


def rename(font, family, source, licence):
    names = font["name"]
    style = "Regular"
    names.names = [n for n in names.names if n.nameID in KEPT_NAMES]
    given = {
        1: family,
        2: style,
        3: f"{family} {style} (subset of {source})",
        4: f"{family} {style}",
        5: "Version 1.000",
        6: family.replace(" ", "") + "-" + style,
        10: f"Modified: a subset of {source} (printable ASCII, no hints), renamed. Licence: {licence}.",
    }
    for number, text in given.items():
        names.setName(text, number, 3, 1, 0x409)
    if "CFF " in font:
        cff = font["CFF "].cff
        cff.fontNames = [given[6]]
        cff.topDictIndex[0].FullName = given[4]
        cff.topDictIndex[0].FamilyName = family


def main(folder):
    options = subset.Options()
    options.hinting = False
    options.layout_features = []
    options.legacy_kern = True
    options.name_IDs = ["*"]
    options.name_languages = ["*"]
    options.notdef_outline = True
    options.recalc_timestamp = False
    options.drop_tables += ["GPOS", "GSUB", "GDEF", "DSIG", "meta"]
    here = Path(__file__).parent
    for name, (family, source, licence) in FONTS.items():
        path = next(p for p in sorted(Path(folder).rglob(Path(source).name)) if str(p).endswith(source))
        font = TTFont(path, recalcTimestamp=False)
        worker = subset.Subsetter(options)
        worker.populate(unicodes=range(0x20, 0x7F))
        worker.subset(font)
        rename(font, family, source, licence)
        font.save(here / name)
        print(f"{name}: {(here / name).stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
