"""Hands setup.cfg to setuptools, for tools that still ask for a setup.py."""

from setuptools import setup

setup()
