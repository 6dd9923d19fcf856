"""``python -m aieng_bench``: the command line where its script is not on the PATH."""

from aieng_bench.cli import main

if __name__ == "__main__":
    main()
