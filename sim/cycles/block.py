"""Reading a block out of an accumulation bank, strip by strip, row by row, as beats of L."""

from sim.cycles.compiled import compiled

__all__ = ["beat_offered", "read_block"]


@compiled
def beat_offered(u):
    """Whether the drain offers a beat to the lanes."""
    return u.reader.loaded and u.switched


@compiled
def _filled(u, banks):
    """Whether the next word is in its bank and may be read."""
    r, bank = u.reader, u.bank
    if banks.ready[bank]:
        return True
    if not r.follow:
        return False
    line, word = 0, r.address
    if r.array_fills:
        line, word = r.tiles - 1 if r.whole_rows else r.tile, r.row
    return line < banks.lines[bank] or (line == banks.lines[bank] and word < banks.words[bank])


@compiled
def _next_word(u):
    """Step to the next word in the order strip, row, column; that in hand becomes a beat."""
    r = u.reader
    row_end = r.left <= u.dim
    strip_end = row_end and r.rows == 1
    r.word_row_end = 1 if row_end else 0
    if r.tiled:
        tile_end = (r.row & (u.dim - 1)) == u.dim - 1
        r.word_last = 1 if row_end and (tile_end or strip_end) else 0
    else:
        r.word_last = 1 if row_end and not r.row_goes_on else 0
    r.word_final = 1 if strip_end and (r.first_column or r.columns <= r.strip) else 0
    r.count, r.group, r.loaded = min(r.left, u.dim), 0, 1
    if strip_end:
        r.tile += 1
        r.address = r.strip_tile = r.tile
        r.row = r.row_address = 0
        r.rows = r.span_rows
        r.columns -= r.strip
        r.left = 1 if r.first_column else min(r.columns, r.strip)
    elif row_end:
        r.row_address += r.tiles
        r.address, r.tile = r.row_address + r.strip_tile, r.strip_tile
        r.row += 1
        r.rows -= 1
        r.left = 1 if r.first_column else min(r.columns, r.strip)
    else:
        r.address += 1
        r.tile += 1
        r.left -= u.dim
    if r.word_final:
        r.reading = 0


@compiled
def read_block(u, banks, taken):
    """One cycle; ``taken``: the beat that is offered goes. Whether it is the block's last."""
    r = u.reader
    ends = taken and r.count <= u.lanes
    done = ends and r.word_final
    if taken:
        r.count -= u.lanes
        r.group += 1
        if ends:
            r.loaded = 0
    if r.reading and not r.loaded and _filled(u, banks):
        _next_word(u)
    if done:
        r.busy = 0
    return done
