"""The paper's Table 2 as a protocol: arms, jobs, statistics and a report."""
