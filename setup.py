from setuptools import setup

setup(cffi_modules=["native/build_cryptsetup.py:ffi"])
