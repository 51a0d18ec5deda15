"""What the documentation of Talos shows of patches, on configs of our own: the result to the letter."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.config.patches import patched, values

NETWORK = """
    machine:
      network:
        interfaces:
          - interface: enp1s0 # uplink
            dhcp: false
            addresses:
              - 10.5.0.3/24
    """
NETWORK_AFTER = """\
    machine:
      network:
        interfaces:
          - interface: enp1s0 # uplink
            dhcp: false
            addresses:
              - 10.5.0.3/24
            vip:
              ip: 10.5.0.50
          - interface: enp2s0
            dhcp: true
    """
CLUSTER = """
    cluster:
      network:
        dnsDomain: nodes.example
        podSubnets:
          - 10.244.0.0/16
        serviceSubnets:
          - 10.96.0.0/12
    """
CLUSTER_AFTER = """\
    cluster:
      network:
        dnsDomain: nodes.example
        podSubnets:
          - 172.30.0.0/16
        serviceSubnets:
          - 172.31.0.0/16
        cni:
          name: none
    """
KUBELET_AFTER = """\
    # a node
    machine:
      kubelet:
        nodeIP:
          validSubnets:
            - 10.5.0.0/24
    """
ADMISSION = """
    cluster:
      apiServer:
        admissionControl:
          - name: EventRateLimit
          - name: PodSecurity
            configuration:
              defaults:
                enforce: baseline
              exemptions:
                namespaces:
                  - kube-system
                usernames: []
              kind: PodSecurityConfiguration
    """
ADMISSION_AFTER = """\
    cluster:
      apiServer:
        admissionControl:
          - name: EventRateLimit
          - name: PodSecurity
            configuration:
              defaults:
                enforce: baseline
              exemptions:
                namespaces:
                  - kube-system
                  - storage
                usernames: []
              kind: PodSecurityConfiguration
    """


@pytest.mark.parametrize(
    ("base", "patch", "after"),
    [
        pytest.param(
            NETWORK,
            """
            machine:
              network:
                interfaces:
                  - interface: enp1s0
                    vip:
                      ip: 10.5.0.50
                  - interface: enp2s0
                    dhcp: true
            """,
            NETWORK_AFTER,
            id="network-merge",
        ),
        pytest.param(
            NETWORK,
            """
            - op: add
              path: /machine/network/interfaces/0/vip
              value:
                ip: 10.5.0.50
            - op: add
              path: /machine/network/interfaces/-
              value:
                interface: enp2s0
                dhcp: true
            """,
            NETWORK_AFTER,
            id="network-json",
        ),
        pytest.param(
            CLUSTER,
            """
            cluster:
              network:
                podSubnets:
                  - 172.30.0.0/16
                serviceSubnets:
                  - 172.31.0.0/16
                cni:
                  name: none
            """,
            CLUSTER_AFTER,
            id="cluster-merge",
        ),
        pytest.param(
            CLUSTER,
            """
            - op: replace
              path: /cluster/network/podSubnets
              value:
                - 172.30.0.0/16
            - op: replace
              path: /cluster/network/serviceSubnets
              value:
                - 172.31.0.0/16
            - op: add
              path: /cluster/network/cni
              value:
                name: none
            """,
            CLUSTER_AFTER,
            id="cluster-json",
        ),
        pytest.param(
            "# a node\nmachine:\n  kubelet: {}\n",
            """
            machine:
              kubelet:
                nodeIP:
                  validSubnets:
                    - 10.5.0.0/24
            """,
            KUBELET_AFTER,
            id="kubelet-merge",
        ),
        pytest.param(
            "# a node\nmachine:\n  kubelet: {}\n",
            """
            - op: add
              path: /machine/kubelet/nodeIP
              value:
                validSubnets:
                  - 10.5.0.0/24
            """,
            KUBELET_AFTER,
            id="kubelet-json",
        ),
        pytest.param(
            ADMISSION,
            """
            cluster:
              apiServer:
                admissionControl:
                  - name: PodSecurity
                    configuration:
                      exemptions:
                        namespaces:
                          - storage
            """,
            ADMISSION_AFTER,
            id="admission-merge",
        ),
        pytest.param(
            ADMISSION,
            """
            - op: add
              path: /cluster/apiServer/admissionControl/1/configuration/exemptions/namespaces/-
              value: storage
            """,
            ADMISSION_AFTER,
            id="admission-json",
        ),
    ],
)
def test_examples(base: str, patch: str, after: str) -> None:
    """Both forms of patch lead to the same text, and a comment of the base stays."""
    assert patched(base, patch) == dedent(after)


def test_a_part_of_a_config_is_merged_with_its_section() -> None:
    """The first example: a host name beside the interfaces."""
    base = "machine:\n  network:\n    interfaces:\n      - interface: eth0\n"
    after = "machine:\n  network:\n    interfaces:\n      - interface: eth0\n    hostname: node-1\n"
    assert patched(base, "machine:\n  network:\n    hostname: node-1\n") == after
    assert patched(base, "- op: add\n  path: /machine/network/hostname\n  value: node-1\n") == after
    inline = '[{"op": "add", "path": "/machine/network/hostname", "value": "node-1"}]'
    assert patched(base, inline) == after
    replaced = "- op: replace\n  path: /machine/network/hostname\n  value: node-2\n"
    assert patched(base, inline, replaced) == after.replace("node-1", "node-2")


def test_an_interface_is_deleted() -> None:
    """The deletion example: the list was the interface alone, and goes with it."""
    base = """
        machine:
          network:
            interfaces:
              - interface: eth0
                addresses:
                  - 10.0.0.2/24
            hostname: node-1
        """
    patch = """
        machine:
          network:
            interfaces:
            - interface: eth0
              $patch: delete
            hostname: node-2
        """
    assert patched(base, patch) == "machine:\n  network:\n    hostname: node-2\n"


def test_documents_are_deleted_and_added() -> None:
    """Whole documents go by apiVersion, kind and name; those that are not there are no problem; new ones come last."""
    base = """
        machine: {type: worker} # stays
        ---
        apiVersion: v1alpha1
        kind: SideroLinkConfig
        apiUrl: https://one.example
        ---
        apiVersion: v1alpha1
        kind: ExtensionServiceConfig
        name: foo
        ---
        # about bar
        apiVersion: v1alpha1
        kind: ExtensionServiceConfig
        name: bar
        """
    patch = """
        apiVersion: v1alpha1
        kind: SideroLinkConfig
        $patch: delete
        ---
        apiVersion: v1alpha1
        kind: ExtensionServiceConfig
        name: foo
        $patch: delete
        ---
        apiVersion: v1alpha1
        kind: NotThere
        $patch: delete
        ---
        apiVersion: v1alpha1
        kind: KmsgLogConfig
        name: remote
        url: tcp://10.0.0.1:514/
        """
    after = """\
        machine: {type: worker} # stays
        ---
        # about bar
        apiVersion: v1alpha1
        kind: ExtensionServiceConfig
        name: bar
        ---
        apiVersion: v1alpha1
        kind: KmsgLogConfig
        name: remote
        url: tcp://10.0.0.1:514/
        """
    assert patched(base, patch) == dedent(after)


def test_patches_work_in_their_order_and_mixed() -> None:
    """The last one wins, whatever its form."""
    base = "machine:\n  type: worker\n"
    merge, operation = "machine: {type: one}", "- {op: replace, path: /machine/type, value: two}"
    assert values(patched(base, merge, operation)) == [{"machine": {"type": "two"}}]
    assert values(patched(base, operation, merge)) == [{"machine": {"type": "one"}}]


def test_a_key_of_a_volume_is_rotated_as_documented() -> None:
    """The new key beside the old one; then the old list is deleted, and the new one given."""
    base = """
        machine:
          systemDiskEncryption:
            ephemeral:
              provider: luks2
              keys:
                - slot: 0 # the first
                  nodeID: {}
        """
    second = "machine: {systemDiskEncryption: {ephemeral: {keys: [{slot: 1, tpm: {}}]}}}"
    drop = "machine: {systemDiskEncryption: {ephemeral: {keys: {$patch: delete}}}}"
    both = patched(base, second)
    assert "slot: 0 # the first" in both
    assert [key["slot"] for key in _keys(both)] == [0, 1]
    assert _keys(patched(both, drop, second)) == [{"slot": 1, "tpm": {}}]


def _keys(text: str) -> list[dict[str, object]]:
    keys: list[dict[str, object]] = values(text)[0]["machine"]["systemDiskEncryption"]["ephemeral"]["keys"]
    return keys
