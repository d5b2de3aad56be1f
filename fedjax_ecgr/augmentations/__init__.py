"""Augmentations: what changes a batch's images at random while a client trains, one a file.

To list another one is to import it here.
"""

from fedjax_ecgr.augmentations.base import Augmentation as Augmentation
from fedjax_ecgr.augmentations.crop import crop as crop
from fedjax_ecgr.augmentations.flip import flip as flip
from fedjax_ecgr.listing import listing

AUGMENTATIONS = listing(globals(), Augmentation)
