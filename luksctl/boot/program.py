"""The boot hook as units run it: `python -I -S …/luksctl/boot/program.py VOLUME`.

-I and -S keep what else was installed for this Python out of a boot (.pth files, sitecustomize, the environment), which
starts sooner so. What the hook needs is looked for beside luksctl, where an installer puts all of it; the first
package that is not there has Python set up its usual places after all.
"""

from __future__ import annotations

import sys


class _UsualPlaces:
    """Whom an import asks last: sets up site-packages, once, and has the others look again."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if path is not None:
            return None  # a part of a package that was found
        del target
        sys.meta_path.remove(self)  # type: ignore[arg-type]  # the protocol wants importlib's own class
        import site  # noqa: PLC0415  # seldom needed, and this start is timed

        site.main()
        return next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, None)) is not None), None)


def main() -> int:
    """Run the hook and return its exit code."""
    sys.path.append(__file__.rsplit("/", 3)[0])
    sys.meta_path.append(_UsualPlaces())  # type: ignore[arg-type]  # as above
    from luksctl.boot.start import run  # noqa: PLC0415  # found only now

    return run()


if __name__ == "__main__":
    sys.exit(main())
