"""A stream that is published to the origin pool's Service plays from the edge pool's Service, and the status counts it."""

import time

from play import probe

from ..demo import SAMPLE
from ..procs import Failed, within
from . import sample as sampling


def body(checks, sample):
    sample.ready()
    publisher = checks.holds("RTMP to the origin pool's Service plays as HLS from the edge pool's Service", lambda: sample.publish("plays"))
    if publisher is None:
        raise Failed("without a stream there is nothing to see")
    codecs = probe(f"http://{sample.address('demo-edge')}:5080/LiveApp/streams/plays.m3u8")
    checks.check("picture and sound arrive", codecs == ["aac", "h264"], codecs)
    watched = sample.watch("plays")

    def count(pool, field, wanted):
        def counted():
            found = sample.pool(pool)["status"].get(field)
            if found != wanted:
                raise Failed(f"{field} is {found}, not {wanted}")
            return True
        return lambda: within(12, f".status.{field} of {pool}", counted, every=0.3)

    checks.holds("the origin pool counts one stream", count("demo-origin", "streams", 1))

    def viewers():
        found = sample.pool("demo-edge")["status"].get("viewers", 0)
        if found < 1:
            raise Failed(f"viewers is {found}")
        return found
    checks.holds("the edge pool counts viewers", lambda: within(12, "viewers", viewers, every=0.3))
    table = sample.kubectl("get", "epool,opool,mcl")
    for line in table.splitlines():
        checks.note(line)
    wanted = ("DESIRED", "READY", "DRAINING", "STREAMS", "VIEWERS", "AGE")
    checks.check("kubectl get shows desired, ready, draining, streams, viewers and age", all(word in table for word in wanted))
    time.sleep(5)
    sampling.undisturbed(checks, "the viewer is served without a gap", watched.done(), 3.0)
    publisher.stop()
    checks.holds("the stream that ended is counted no more", count("demo-origin", "streams", 0))
    applied = sample.kubernetes.kubectl("diff", "--server-side", "--force-conflicts", "-k", SAMPLE, check=False)
    checks.check("nothing that was applied differs from what is there", applied.returncode == 0, applied.stdout[-400:].strip())
