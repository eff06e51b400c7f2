"""Texts written for this project: what the demo reads, and what scales are calibrated on."""

__all__ = ["CALIBRATION", "TEXT"]

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
CALIBRATION = (
    "The harbour was quiet before the first ferry came in at six.",
    "In 1987 the town council voted, 14 to 3, to rebuild the old mill by the river.",
    "This film is far too long, and none of its jokes land; I nearly left after an hour.",
    "A warm, clever and beautifully acted story that stays with you for days.",
    "To reset the device, hold the button for ten seconds until the light turns red.",
    "Prices rose by 2.4 percent in March, the sharpest increase since the spring of last year.",
    "She asked whether the train from Prague would be late again, and nobody answered.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "def area(width, height): return width * height",
    "The patient was given 5 mg twice daily and reported no further pain.",
    "Whisk the eggs with the flour, add a pinch of salt, and let the batter rest in the fridge.",
    "Our team lost the final after extra time, although we had led until the last minute.",
    "How many moons does Jupiter have, and which of them is the largest?",
    "Dear Sir or Madam, I am writing to complain about the delay of my order.",
    "Snow fell all night over the mountains; by morning the pass was closed.",
    "The contract ends on 31 December unless either party gives notice in writing.",
)
"""Sentences of many kinds."""
