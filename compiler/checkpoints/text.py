"""The text that the demo reads, written for this project."""

__all__ = ["TEXT"]

TEXT = (
    "The octave sign tells a pianist to play eight notes higher than written, so a melody "
    "that would need many ledger lines stays easy to read at sight. Composers have used it "
    "for three hundred years, and every player learns to trust it: the shape of the phrase is "
    "kept, only its register moves. Number formats do much the same for hardware. A short "
    "word cannot hold every value, yet a small exponent shifts the few digits that it has to "
    "where the music happens, and the ear hardly notices what was rounded away. An "
    "accelerator that reads eight bits instead of sixteen moves half the data, and at the "
    "edge of a network, in a hearing aid or a camera, moving data is most of the work."
)
