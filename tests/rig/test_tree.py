"""What of the checkout reaches the guest."""

from __future__ import annotations

from rig import host
from rig.tree import dependency_files, package_files


def test_package_ships_its_modules_and_no_caches() -> None:
    """The package's own modules are there, compiled caches of this host are not."""
    files = package_files(host.CHECKOUT / "luksctl")
    assert "luksctl/errors.py" in files
    assert not [name for name in files if "__pycache__" in name]


def test_dependencies_of_dependencies_come_along() -> None:
    """The binding's cffi brings its compiled backend; what is needed only to build stays here."""
    files = dependency_files({"dependencies": ["cffi>=1.17"]})
    assert [name for name in files if name.startswith("_cffi_backend")]
    assert not [name for name in files if name.startswith("pycparser")]


def test_optional_distribution_that_is_not_installed_is_left_out() -> None:
    """An extra that this environment lacks is no error."""
    project = {"dependencies": [], "optional-dependencies": {"terminal": ["no-such-distribution>=1"]}}
    assert dependency_files(project) == {}
