"""kubectl scale: pods come, and go the lowest slots last; a pod with a stream is drained, not cut."""

from ..procs import Failed, within


def body(checks, sample):
    sample.ready()
    publisher = sample.publish("scaling")
    uids = sample.uids()
    lowest = next(name for slot in range(4) if (name := f"demo-edge-{slot}") not in uids)

    def edges(count):
        def there():
            pods = sample.pods("demo-edge")
            status = sample.pool("demo-edge")["status"]
            if len(pods) != count or status.get("readyReplicas") != count:
                raise Failed(f"{len(pods)} pods: {[p['metadata']['name'] for p in pods]}, status {status}")
            return True
        return lambda: within(90, f"{count} edges", there, every=0.5)

    try:
        sample.kubectl("scale", "epool", "demo-edge", "--replicas=3")
        checks.holds("scaled to 3: three edges are ready", edges(3))
        found = set(sample.uids("demo-edge")) - set(uids)
        checks.check("the new one has the lowest free name", found == {lowest}, found)
    finally:
        sample.kubectl("scale", "epool", "demo-edge", "--replicas=2")
    checks.holds("scaled to 2: two edges are left", edges(2))
    after = sample.uids("demo-origin")
    checks.check("the origin was left alone", all(uids[name] == uid for name, uid in after.items()))
    checks.check("the publisher was never cut", publisher.running())
