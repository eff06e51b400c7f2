"""The kit of command lines: parsers, options of builds and models, output. Any tool may use it.

An error is one line on standard error and exit code 2; a file is written whole or not at all.
"""

from gen.cli.build import (
    PERIOD_NS,
    add_config_flags,
    add_module_names,
    add_periods,
    add_surroundings_flags,
    changed_config,
    config_from,
    describe,
    describe_surroundings,
    prefix_from,
    surroundings_from,
)
from gen.cli.line import Line, counted
from gen.cli.model import add_adapter, add_fusion, add_model, add_model_flags, add_scales
from gen.cli.output import (
    add_product,
    add_record,
    appearing,
    deliver,
    make_folder,
    save,
    writable,
)
from gen.cli.parser import (
    Parser,
    add_jobs,
    add_names,
    add_offline,
    add_on,
    add_quiet,
    add_scheduler,
    add_seed,
    alone,
    integer,
    number,
    piped,
    real,
)
from gen.cli.text import comment, in_ascii

__all__ = [
    "PERIOD_NS",
    "Line",
    "Parser",
    "add_adapter",
    "add_config_flags",
    "add_fusion",
    "add_jobs",
    "add_model",
    "add_model_flags",
    "add_module_names",
    "add_names",
    "add_offline",
    "add_on",
    "add_periods",
    "add_product",
    "add_quiet",
    "add_record",
    "add_scales",
    "add_scheduler",
    "add_seed",
    "add_surroundings_flags",
    "alone",
    "appearing",
    "changed_config",
    "comment",
    "config_from",
    "counted",
    "deliver",
    "describe",
    "describe_surroundings",
    "in_ascii",
    "integer",
    "make_folder",
    "number",
    "piped",
    "prefix_from",
    "real",
    "save",
    "surroundings_from",
    "writable",
]
