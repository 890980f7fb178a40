"""``python -m pylxc`` is the command ``pylxc``."""

import sys

from pylxc.cli import main

if __name__ == "__main__":
    sys.exit(main())
