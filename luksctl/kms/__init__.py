"""The KMS server and where its keys come from: an entry of its own, joined to the command line by luksctl.__main__."""
