"""What the registers of a build say of it: constants that drivers compare before they start."""

from hdl.spec.commands import ISA_MAJOR, Feature, features_of, isa_minor
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import COUNTERS, IDENTITY

__all__ = ["identification", "whole_registers"]


def identification(config: AcceleratorConfig) -> dict[tuple[str, str], int]:
    """By register and field, the value that it always reads; FEATURES whole and by its bits."""
    features = features_of(config)
    return {
        ("IDENTITY", "VALUE"): IDENTITY,
        ("ISA_VERSION", "MINOR"): isa_minor(config),
        ("ISA_VERSION", "MAJOR"): ISA_MAJOR,
        ("CONFIG_HASH_LOW", "VALUE"): config.hash & 0xFFFFFFFF,
        ("CONFIG_HASH_HIGH", "VALUE"): config.hash >> 32,
        ("FEATURES", "VALUE"): int(features),
        **{("FEATURES", str(feature.name)): int(feature in features) for feature in Feature},
        ("SHAPE", "DIM"): config.dim,
        ("SHAPE", "LANES"): config.lanes,
        ("SHAPE", "BUS_BYTES"): config.bus_bytes,
        ("SHAPE", "COUNTERS"): len(COUNTERS),
    }


def whole_registers(config: AcceleratorConfig) -> dict[str, int]:
    """What identifies the program format and the build, by register."""
    known = identification(config)
    return {"IDENTITY": known["IDENTITY", "VALUE"],
            "ISA_VERSION": known["ISA_VERSION", "MAJOR"] << 16 | known["ISA_VERSION", "MINOR"],
            "CONFIG_HASH_LOW": known["CONFIG_HASH_LOW", "VALUE"],
            "CONFIG_HASH_HIGH": known["CONFIG_HASH_HIGH", "VALUE"]}
