"""Find files that are unreadable, odd or come twice: `python apps/audio/check.py [--config NAME or FILE]`."""

from eyetoy_audio.check import check

if __name__ == "__main__":
    raise SystemExit(check())
