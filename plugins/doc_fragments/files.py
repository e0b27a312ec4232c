# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option `files` of all modules that write files; module_utils/files.py has the same as argument spec."""

from __future__ import annotations


class ModuleDocFragment:
    """One shape for files, wherever they are written."""

    DOCUMENTATION = r"""
options:
  files:
    description: The files. They are replaced atomically. An unchanged file is not touched.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path; with O(dest) one below it., type: path, required: true}
      content: {description: "The file's whole text. Required, except for a file of O(src).", type: str}
      mode: {description: Octal permissions; default is 0644 or what O(file_mode) says., type: str}
      owner:
        description: >-
          Name of a user, whose own group the file gets, or number of a user and group, which need not exist.
          Default is the user that the module runs as (with C(become), root).
        type: str
      directory_mode:
        description: >-
          Octal permissions of the file's directory, which then belongs to the file's owner. Without it, an existing
          directory is not changed.
        type: str
      validate:
        description: >-
          A command that refuses a wrong text with an exit code other than 0, before it is in place. It gets the text as
          a file in place of C(%s), otherwise as its standard input. In check mode a command, or a directory for the
          file, that is not there yet is not an error.
        type: str
"""
