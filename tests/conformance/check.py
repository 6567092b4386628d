# Reads the report of the test suite, and fails unless every case went well.
from __future__ import print_function

import collections
import json
import sys

# A server may notice later than it could (that is not strict), and some cases only tell how it behaves.
GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")
# How many cases there are without those about compression: a run of fewer shows less than it seems to.
FEWEST = 300

with open(sys.argv[1]) as report:
    (cases,) = json.load(report).values()

counts = collections.Counter()
bad = []
for case in sorted(cases, key=lambda case: [int(part) for part in case.split(".")]):
    behavior, at_close = cases[case]["behavior"], cases[case]["behaviorClose"]
    counts[behavior] += 1
    if behavior not in GOOD or at_close not in GOOD:
        bad.append("%s (%s, at its close %s)" % (case, behavior, at_close))

told = ", ".join("%d %s" % (count, behavior) for behavior, count in sorted(counts.items()))
print("conformance: %d cases: %s" % (len(cases), told))
if bad:
    sys.exit("conformance: these cases failed: " + "; ".join(bad))
if len(sys.argv) == 2 and len(cases) < FEWEST:
    sys.exit("conformance: there are at least %d cases, so some were not run" % FEWEST)
