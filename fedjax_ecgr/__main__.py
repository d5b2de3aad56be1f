"""`python -m fedjax_ecgr` is `fedjax-ecgr`."""

import sys

from fedjax_ecgr.cli import main

sys.exit(main())
