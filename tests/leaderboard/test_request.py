"""What a request may say."""

import pytest
from support.made_requests import COMMIT, DEMO_REQUEST

from leaderboard.errors import SubmissionError
from leaderboard.requests.request import Request


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": "gift"}, "kind must be 'model' or 'scores'"),
        ({"model": "../etc/passwd"}, "model must be 'demo' or a Hub id"),
        ({"model": "alice/..", "revision": COMMIT}, "Hub id"),
        ({"model": "alice/a\u202eb", "revision": COMMIT}, "control characters"),
        ({"model": "alice/a\nb", "revision": COMMIT}, "control characters"),
        ({"model": "a/b + ../c", "revision": COMMIT}, "'owner/name'"),
        ({"model": f"a/b + c/d/../e@{COMMIT}", "revision": COMMIT}, "'owner/name'"),
        ({"model": "a/b + c/d", "revision": COMMIT}, "needs a commit hash after an @"),
        ({"model": "a/b + c/d@main", "revision": COMMIT}, "needs a commit hash after an @"),
        ({"model": "x" * 1000}, "1,000 characters long"),
        ({"model": 7}, "model must be text"),
        ({"model": "alice/m"}, "revision must be a commit hash"),
        ({"model": "alice/m", "revision": "main"}, "revision must be a commit hash"),
        ({"revision": COMMIT}, "'demo' has none"),
        ({"split": "file:///etc"}, "split must be 'demo' or a Hub id"),
        ({"split": "alice/s"}, "split_revision must be a commit hash"),
        ({"attacks": []}, "names no attack"),
        ({"attacks": "sima"}, "must be a list"),
        ({"attacks": ["sima", "sima:p=4"]}, "named more than once"),
        ({"attacks": ["simma"]}, "Did you mean|unknown|no attack"),
        ({"attacks": ["sima:q=1"]}, "attacks: "),
        ({"attacks": ["sima"] * 40}, "attacks has 40 items; at most 24 are accepted"),
        ({"attacks": [5]}, r"attacks\[0\] must be text"),
        ({"attacks": ["nearest-generated:generated=/"]}, "generated of 'nearest-generated' takes something"),
        ({"attacks": ["nearest-generated:samples=5,generated=/nowhere"]}, "generated of 'nearest-generated' takes something"),
        ({"attacks": ["nearest-generated:given=complexity,generated=a,b"]}, "generated of 'nearest-generated' takes something"),
        ({"attacks": ["clid:importance=x"]}, "importance of 'clid' takes something"),
        ({"attacks": ["rediffuse:variation=x"]}, "variation of 'rediffuse' takes something"),
        ({"attacks": ["combine:parts=nearest-generated:generated=/,sima"]}, "no attack|no parameter|parts must be|only exists"),
        ({"attacks": ["combine:parts=sima,nearest-generated:generated=/"]}, "no attack"),
        ({"attacks": ["combine:parts=sima,pia,generated=/"]}, "no parameter 'generated'"),
        ({"attacks": ["sima-mc:draws=1000"]}, "21,000 queries per image; at most 10,000"),
        ({"attacks": ["pfami:crops=5000"]}, "queries per image; at most 10,000"),
        ({"attacks": ["nearest-generated:samples=100000"]}, "5,000,000 queries before the first image; at most 1,000,000"),
        ({"attacks": ["rediffuse:k=1,timesteps=10000000000"]}, "timesteps of 'rediffuse' may be 100,000 at most"),
        ({"attacks": ["sima:p=inf"]}, "p of 'sima' may be 100,000 at most"),
        ({"attacks": ["sima:p=nan"]}, "p of 'sima' may be 100,000 at most"),
        ({"captions": "swapped"}, "captions must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": True}, "seed must be"),
        ({"note": "x" * 501}, "at most 500"),
        ({"note": "a\x00b"}, "control characters"),
        ({"push": "yes"}, "push must be"),
        ({"reproduced": True}, "has no field 'reproduced'"),
        ({"scores": "0" * 64}, "scores is for kind 'scores'"),
        ({"kind": "scores"}, "scores must be the SHA-256"),
    ],
)
def test_a_hostile_or_wrong_request_is_refused(changes, message):
    with pytest.raises(SubmissionError, match=message):
        Request.from_dict(DEMO_REQUEST | changes)


def test_a_request_that_is_no_object_or_lacks_a_field_is_refused():
    for values in ([], "x", None):
        with pytest.raises(SubmissionError, match="JSON object"):
            Request.from_dict(values)
    for name in DEMO_REQUEST:
        with pytest.raises(SubmissionError, match=f"lacks the field '{name}'"):
            Request.from_dict({key: value for key, value in DEMO_REQUEST.items() if key != name})


def test_the_id_is_of_the_content_alone():
    request = Request.from_dict(DEMO_REQUEST | {"attacks": ["pia", "sima:p=4"], "submitter": "alice", "note": "n"})
    assert request.attacks == ("pia", "sima")
    assert request.id == Request.from_dict(DEMO_REQUEST | {"attacks": ["sima", "pia"]}).id != Request.from_dict(DEMO_REQUEST).id
    assert Request.from_dict(request.to_dict()) == request
