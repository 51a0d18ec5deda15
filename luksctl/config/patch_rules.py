"""Where a strategic merge patch does not simply append to a list: the exceptions that Talos documents, and slots."""

from __future__ import annotations

from enum import StrEnum

from luksctl.hints import Final
from luksctl.value import frozen


class Rule(StrEnum):
    """How the value of one field is merged."""

    USUAL = "usual"  # mappings by key, lists appended, other values replaced
    REPLACE = "replace"
    ARGUMENTS = "arguments"  # each argument is replaced as a whole
    MATCH = "match"  # the elements of a list are told by a field


@frozen
class Merge:
    """The rule of a field. With MATCH, `selectors` are the fields that tell an element, the first one given counts.

    `whole` says that the element of the patch takes the place of the one that it matches.
    """

    rule: Rule
    selectors: tuple[str, ...] = ()
    whole: bool = False


USUAL: Final = Merge(Rule.USUAL)
_REPLACE: Final = Merge(Rule.REPLACE)
_MACHINE: Final = ""  # the kind of the machine configuration proper

# (kind, path without the places in lists)
_RULES: Final = {
    (_MACHINE, "cluster.network.podSubnets"): _REPLACE,
    (_MACHINE, "cluster.network.serviceSubnets"): _REPLACE,
    (_MACHINE, "cluster.apiServer.auditPolicy"): _REPLACE,
    (_MACHINE, "cluster.apiServer.admissionControl"): Merge(Rule.MATCH, ("name",)),
    (_MACHINE, "machine.network.interfaces"): Merge(Rule.MATCH, ("interface", "deviceSelector")),
    (_MACHINE, "machine.network.interfaces.vlans"): Merge(Rule.MATCH, ("vlanId",)),
    ("CRIBaseRuntimeSpecConfig", "overrides"): _REPLACE,
    ("ExtensionServiceConfig", "configFiles"): Merge(Rule.MATCH, ("mountPath",)),
    ("ImageVerificationConfig", "rules"): Merge(Rule.MATCH, ("image",), whole=True),
    ("KubeAuditPolicyConfig", "configuration"): _REPLACE,
    ("KubeAuthenticationConfig", "configuration"): _REPLACE,
    ("KubeCredentialProviderConfig", "configuration"): _REPLACE,
    ("KubeNetworkConfig", "podSubnets"): _REPLACE,
    ("KubeNetworkConfig", "serviceSubnets"): _REPLACE,
    ("KubeStaticPodConfig", "pod"): _REPLACE,
    ("NetworkRuleConfig", "ingress"): _REPLACE,
    ("NetworkRuleConfig", "portSelector.ports"): _REPLACE,
}
_KEYS: Final = frozenset(
    {
        (_MACHINE, "machine.systemDiskEncryption.state.keys"),
        (_MACHINE, "machine.systemDiskEncryption.ephemeral.keys"),
        ("VolumeConfig", "encryption.keys"),
        ("UserVolumeConfig", "encryption.keys"),
        ("RawVolumeConfig", "encryption.keys"),
        ("SwapVolumeConfig", "encryption.keys"),
    }
)
_BY_SLOT: Final = Merge(Rule.MATCH, ("slot",))


def is_key_list(kind: str, path: tuple[str, ...]) -> bool:
    """Tell whether the keys of a volume stand there."""
    return (kind, ".".join(path)) in _KEYS


def rule_of(kind: str, path: tuple[str, ...], *, keys_by_slot: bool) -> Merge:
    """Return how the field `path` of a document of `kind` is merged."""
    if path and path[-1] == "extraArgs":
        return Merge(Rule.ARGUMENTS)
    if keys_by_slot and is_key_list(kind, path):
        return _BY_SLOT
    return _RULES.get((kind, ".".join(path)), USUAL)
