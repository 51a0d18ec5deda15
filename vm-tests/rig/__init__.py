"""Boot a real guest and hold its power switch: the rig under the stories of vm-tests/."""
