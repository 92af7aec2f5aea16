# SPDX-License-Identifier: GPL-2.0-or-later
"""The QAPI code generator: parser, schema checks and one back end per output."""
