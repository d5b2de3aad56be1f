"""Sources of examples: functions that return a `Dataset`, one a file.

To list another one is to import it here.
"""

from fedjax_ecgr.data.datasets.arrays import arrays as arrays
from fedjax_ecgr.data.datasets.digits import digits as digits
from fedjax_ecgr.data.datasets.femnist import femnist as femnist
from fedjax_ecgr.data.datasets.idx import idx as idx
from fedjax_ecgr.data.datasets.image_folder import image_folder as image_folder
from fedjax_ecgr.data.datasets.npz import npz as npz
from fedjax_ecgr.data.datasets.shakespeare import shakespeare as shakespeare
from fedjax_ecgr.data.datasets.synthetic import synthetic as synthetic
from fedjax_ecgr.data.datasets.tfds import tfds as tfds
from fedjax_ecgr.data.federated import Dataset
from fedjax_ecgr.data.held_out import with_validation as with_validation
from fedjax_ecgr.listing import listing

DATASETS = listing(globals(), Dataset, apart=["arrays", "with_validation"])
