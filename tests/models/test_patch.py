"""The patch against slices of NumPy."""

import numpy as np

from tf_dicom_ce.models.gan import centre_patch, mask_centre, paste_patch

RNG = np.random.default_rng(0)


def test_the_hole_is_the_central_half():
    image = RNG.normal(size=(2, 8, 12, 1)).astype(np.float32)
    expected = image.copy()
    expected[:, 2:6, 3:9] = 0
    np.testing.assert_array_equal(centre_patch(image), image[:, 2:6, 3:9])
    np.testing.assert_array_equal(mask_centre(image), expected)
    np.testing.assert_array_equal(paste_patch(mask_centre(image), centre_patch(image)), image)
