"""Who may run what on another node: the roles of Talos, and what each command gives to which.

A key that sshd ties to `luksctl --role ROLE` has that role. An option that nobody is named for is for os:admin alone,
and so is whatever names a file of the node.
"""

from __future__ import annotations

from enum import StrEnum

from luksctl.hints import Final
from luksctl.value import frozen


class Role(StrEnum):
    """A role; each has what those before it have."""

    READER = "os:reader"
    OPERATOR = "os:operator"
    ADMIN = "os:admin"

    def covers(self, needed: Role) -> bool:
        """Tell whether this role has what `needed` has."""
        return _ORDER.index(self) >= _ORDER.index(needed)


_ORDER: Final = (Role.READER, Role.OPERATOR, Role.ADMIN)


@frozen
class Access:
    """Who may run one command, which is the words behind the verb; `role` None: it is about no node, and stays here.

    `options` may be used by who has the role, by their names in the parser; `raised` by another one. --json is free.
    """

    role: Role | None
    command: str = ""
    options: tuple[str, ...] = ()
    raised: tuple[tuple[str, Role], ...] = ()

    def needed_for(self, option: str) -> Role:
        """Return the role that may use the option or operand `option`."""
        if option in self.options and self.role is not None:
            return self.role
        return dict(self.raised).get(option, Role.ADMIN)


def reading(command: str = "", *options: str, raised: tuple[tuple[str, Role], ...] = ()) -> Access:
    """Return what os:reader may."""
    return Access(Role.READER, command, options, raised)


def operating(command: str = "", *options: str) -> Access:
    """Return what os:operator may."""
    return Access(Role.OPERATOR, command, options)


def administering(*commands: str) -> tuple[Access, ...]:
    """Return commands that os:admin alone may run, with every option."""
    return tuple(Access(Role.ADMIN, command) for command in commands or ("",))


def staying(*commands: str) -> tuple[Access, ...]:
    """Return commands that are never run on another node."""
    return tuple(Access(None, command) for command in commands or ("",))


def shown(access: tuple[Access, ...]) -> str:
    """Return who may run the commands of a verb, as docs/verbs.md shows it."""
    if len(access) == 1:
        return str(access[0].role or "-")
    parts = []
    for role in (*_ORDER, None):
        commands = ", ".join(each.command for each in access if each.role is role)
        if commands:
            parts.append(f"{role or '-'}: {commands}")
    return "; ".join(parts)
