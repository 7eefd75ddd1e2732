"""``python -m simplews``: the same as the ``simplews`` command."""

import sys

from .cli import main

sys.exit(main())
