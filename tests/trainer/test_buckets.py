from __future__ import annotations

import pytest

from backend.trainer.buckets import Bucket, bucket_for, buckets_for, cover_size, sdxl_bucket

# The table of ai-toolkit's algorithm (May 2026): sides of the bucket by proportions and resolution.
TABLE = [
    ((1, 1), (512, 512), (768, 768), (1024, 1024)),
    ((5, 4), (544, 480), (832, 704), (1120, 928)),
    ((4, 3), (576, 448), (864, 672), (1152, 896)),
    ((7, 5), (576, 448), (896, 640), (1184, 864)),
    ((3, 2), (608, 416), (960, 608), (1248, 832)),
    ((16, 10), (672, 384), (960, 608), (1280, 800)),
    ((16, 9), (672, 384), (1024, 576), (1344, 768)),
    ((2, 1), (736, 352), (1056, 544), (1472, 704)),
    ((21, 9), (800, 320), (1152, 512), (1536, 672)),
    ((3, 1), (896, 288), (1312, 448), (1792, 576)),
]


@pytest.mark.parametrize(("ratio", "at512", "at768", "at1024"), TABLE)
def test_the_table(
    ratio: tuple[int, int], at512: tuple[int, int], at768: tuple[int, int], at1024: tuple[int, int]
) -> None:
    width, height = ratio[0] * 300, ratio[1] * 300
    if width * height < 1100**2:
        width, height = width * 4, height * 4
    for resolution, expected in ((512, at512), (768, at768), (1024, at1024)):
        assert bucket_for(width, height, resolution) == expected
        assert bucket_for(height, width, resolution) == expected[::-1]


# The same of ai-toolkit's older algorithm (the tutorial's fork).
OLD_TABLE = [
    ((1, 1), (512, 512), (768, 768), (1024, 1024)),
    ((5, 4), (576, 448), (768, 640), (1088, 896)),
    ((4, 3), (576, 448), (832, 640), (1152, 832)),
    ((7, 5), (576, 384), (832, 576), (1152, 832)),
    ((3, 2), (576, 384), (832, 576), (1216, 832)),
    ((16, 10), (640, 384), (896, 576), (1280, 768)),
    ((16, 9), (640, 384), (960, 512), (1344, 768)),
    ((2, 1), (640, 320), (1024, 512), (1408, 704)),
    ((21, 9), (768, 320), (1152, 448), (1536, 640)),
    ((3, 1), (832, 256), (1216, 384), (1728, 576)),
]


@pytest.mark.parametrize(("ratio", "at512", "at768", "at1024"), OLD_TABLE)
def test_the_older_table(
    ratio: tuple[int, int], at512: tuple[int, int], at768: tuple[int, int], at1024: tuple[int, int]
) -> None:
    width, height = ratio[0] * 1200, ratio[1] * 1200
    for resolution, expected in ((512, at512), (768, at768), (1024, at1024)):
        assert sdxl_bucket(width, height, resolution) == expected
        assert sdxl_bucket(height, width, resolution) == expected[::-1]
    assert buckets_for(width, height, [1024, 512], "sdxl") == [at512, at1024]


def test_squares_have_the_resolutions_size_whatever_the_picture() -> None:
    assert buckets_for(3000, 1000, [512, 1000], "square") == [(512, 512), (992, 992)]
    assert buckets_for(300, 200, [512, 1024], "square") == [(512, 512)]


def test_small_pictures_are_not_enlarged() -> None:
    assert bucket_for(1000, 1000, 1024) == (992, 1024)
    assert bucket_for(600, 800, 768) == bucket_for(600, 800, 1024) == (608, 800)


def test_resolutions_beyond_the_picture_are_dropped() -> None:
    assert buckets_for(600, 800, [512, 768, 1024]) == [bucket_for(600, 800, 512), (608, 800)]
    assert buckets_for(1000, 1000, [1024, 1000]) == [bucket_for(1000, 1000, 1000)]
    assert len(buckets_for(3000, 2000, [1024, 512, 768, 512])) == 3


@pytest.mark.parametrize("size", [(1, 1), (20, 20), (3000, 10), (10, 3000), (33, 4000), (5000, 5001)])
@pytest.mark.parametrize("resolution", [32, 64, 512, 1024])
def test_any_picture_gets_a_bucket(size: tuple[int, int], resolution: int) -> None:
    bucket = bucket_for(*size, resolution)
    assert bucket.width % 32 == bucket.height % 32 == 0
    assert 32 * 32 <= bucket.width * bucket.height <= resolution**2
    width, height = cover_size(*size, bucket)
    assert width >= bucket.width
    assert height >= bucket.height
    assert width == bucket.width or height == bucket.height
    older = sdxl_bucket(*size, resolution)
    assert older.width % 64 == older.height % 64 == 0
    assert min(older) >= 64


def test_cover_keeps_proportions() -> None:
    assert cover_size(1600, 900, Bucket(672, 384)) == (683, 384)
