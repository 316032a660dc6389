"""A PNG without its texts and its colour profile.

Pillow refuses a whole file where these are long or broken, though they decide no pixel here.
"""

PNG = b"\x89PNG\r\n\x1a\n"  # how every PNG begins
LEFT_OUT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def without_metadata(data: bytes) -> bytes:
    """The PNG in `data` less its texts and profile; a chunk that is cut short stays as it is."""
    kept, position = [data[: len(PNG)]], len(PNG)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")  # length, name, content, checksum
        if data[position + 4 : position + 8] not in LEFT_OUT or end > len(data):
            kept.append(data[position:end])
        position = end
    return b"".join(kept) + data[position:]
