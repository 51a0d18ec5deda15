"""What the processes of one server know from each other before they are forked."""

from __future__ import annotations

from luksctl.kms.address import Address
from luksctl.kms.admission import Rules
from luksctl.model.kms import ServeOptions, TlsFiles
from luksctl.value import frozen


@frozen
class Plan:
    """Options that were checked, as files and addresses. `directory` None: every node is one (--compat)."""

    options: ServeOptions
    address: Address
    status_address: Address
    directory: str | None
    audit: str
    tls: TlsFiles | None
    rules: Rules
