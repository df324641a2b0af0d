import numpy as np

from lessen.distill.alignment import aligner, overlap

# "unhappy cats": student [CLS] un happy cats [SEP]; teacher [CLS] unhap py cat s [SEP]
STUDENT = np.array([[0, 0], [0, 2], [2, 7], [8, 12], [0, 0]])
TEACHER = np.array([[0, 0], [0, 5], [5, 7], [8, 11], [11, 12], [0, 0]])


def test_a_student_token_is_the_mean_of_the_teacher_tokens_that_share_a_character():
    want = [
        [1, 0, 0, 0, 0, 0],  # [CLS] with [CLS]
        [0, 1, 0, 0, 0, 0],  # un: in unhap
        [0, 0.5, 0.5, 0, 0, 0],  # happy: in unhap and py
        [0, 0, 0, 0.5, 0.5, 0],  # cats: cat, s
        [0, 0, 0, 0, 0, 1],  # [SEP] with [SEP]
    ]
    np.testing.assert_allclose(overlap(STUDENT, TEACHER), want)


def test_touching_is_not_overlapping():
    assert overlap(np.array([[0, 3]]), np.array([[3, 5]])).sum() == 0


def test_the_same_tokens_align_one_to_one():
    np.testing.assert_array_equal(overlap(STUDENT, STUDENT), np.eye(5))


def test_text_beyond_the_teachers_truncation_has_no_partner():
    weights = overlap(STUDENT, np.array([[0, 0], [0, 5], [0, 0]]))
    assert weights[3].sum() == 0
    assert weights.sum(axis=1).tolist() == [1, 1, 1, 0, 1]


def test_a_batch_is_padded_with_zeros():
    out = aligner([STUDENT, STUDENT[:2]], [TEACHER, TEACHER[:2]], (7, 8))
    assert out.shape == (2, 7, 8)
    assert out[:, 5:].sum() == 0
    assert out[1, 2:].sum() == 0
