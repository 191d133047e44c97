"""Modules of the standard library that the base holds, so that most apps load few files of it.

More of them make each sandbox larger: memory of every call, though only what is used takes pages. The host serves the
others while an app is loaded.

What a function imports without its author's knowing has to be here: `datetime.strptime` imports `_strptime`, a text in
an encoding of its own imports that encoding. Nothing can be imported once the snapshot is taken.
"""

# ruff: noqa: F401
# pyright: reportUnusedImport=false

import _strptime
import abc
import array
import base64
import binascii
import bisect
import calendar
import codecs
import collections
import collections.abc
import contextlib
import copy
import csv
import dataclasses
import datetime
import decimal
import encodings.ascii
import encodings.cp1250
import encodings.cp1251
import encodings.cp1252
import encodings.idna
import encodings.iso8859_1
import encodings.iso8859_2
import encodings.iso8859_15
import encodings.koi8_r
import encodings.latin_1
import encodings.punycode
import encodings.utf_16
import encodings.utf_16_be
import encodings.utf_16_le
import encodings.utf_32
import encodings.utf_8
import encodings.utf_8_sig
import enum
import functools
import hashlib
import heapq
import html
import http
import io
import itertools
import json
import logging
import math
import operator
import os.path
import pathlib
import random
import re
import secrets
import string
import struct
import textwrap
import time
import traceback
import types
import typing
import unicodedata
import urllib.parse
import uuid
import warnings
import weakref
import zlib
