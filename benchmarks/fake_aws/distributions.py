"""Assumed distributions of keys and resources in a large organization.

All values are ASSUMPTIONS unless stated otherwise: such figures are not published. The shapes are chosen so that the
tails reach page sizes and quotas. Do not quote them as measurements.
"""

from __future__ import annotations

from benchmarks.fake_aws.seeded_random import Weights

Range = tuple[int, int]

# -- accounts
ACCOUNT_STATES: Weights[str] = (
    ("ACTIVE", 0.955),
    ("SUSPENDED", 0.02),
    ("CLOSED", 0.015),
    ("PENDING_CLOSURE", 0.005),
    ("PENDING_ACTIVATION", 0.005),
)
ARCHETYPES: Weights[str] = (
    ("workload", 0.62),
    ("sandbox", 0.22),
    ("shared-services", 0.06),
    ("data-platform", 0.05),
    ("network", 0.03),
    ("security", 0.02),
)
ROLE_MISSING = 0.015
OTHER_EXTERNAL_ID = 0.003

# -- regions
OPT_IN_REGIONS_ENABLED: Weights[Range] = (((0, 0), 0.85), ((1, 2), 0.12), ((3, 8), 0.03))
ACTIVE_REGIONS: Weights[Range] = (((1, 1), 0.45), ((2, 2), 0.33), ((3, 4), 0.15), ((5, 17), 0.07))
ACTIVE_WITHOUT_CUSTOMER_KEYS = 0.08
"""Share of the active account-regions. 87 % of all account-regions have no customer key, most because they are inactive."""
UNUSED_WITH_MANAGED_KEYS = 0.28
"""Share of the inactive account-regions. 62 % of all account-regions have no key at all."""

# -- keys
MANAGED_KEYS = (6, 0.55, 1, 18)
"""AWS managed keys per active account-region. Tuples are median, sigma, minimum and maximum of a log-normal number."""
CUSTOMER_KEYS = (5, 1.25, 1, 3000)
OUTLIER_KEYS = (2_000, 20_000)
"""One to three account-regions of a large organization have a key per tenant (Pareto, exponent 1.1)."""
PREDEFINED_ALIASES = (8, 14)
KEY_STATES: Weights[str] = (
    ("Enabled", 0.90),
    ("Disabled", 0.04),
    ("PendingDeletion", 0.045),
    ("PendingImport", 0.005),
    ("Unavailable", 0.003),
    ("Creating", 0.0035),
    ("Updating", 0.0035),
)
KEY_SPECS: Weights[str] = (
    ("SYMMETRIC_DEFAULT", 0.955),
    ("RSA_2048", 0.008),
    ("RSA_4096", 0.007),
    ("ECC_NIST_P256", 0.01),
    ("ECC_SECG_P256K1", 0.005),
    ("HMAC_256", 0.012),
    ("ML_DSA_65", 0.003),
)
KEY_ORIGINS: Weights[str] = (
    ("AWS_KMS", 0.975),
    ("EXTERNAL", 0.018),
    ("AWS_CLOUDHSM", 0.004),
    ("EXTERNAL_KEY_STORE", 0.003),
)
MULTI_REGION_SETS = 0.3
"""Mean number of multi-Region key sets per active region of an account: about 4 % of its keys."""
MULTI_REGION_REPLICAS: Weights[Range] = (((1, 1), 0.75), ((2, 2), 0.18), ((3, 6), 0.07))
ROTATION_ON = 0.62
ROTATION_DAYS: Weights[int] = ((365, 0.93), (90, 0.03), (180, 0.02), (730, 0.01), (120, 0.01))
ON_DEMAND_ROTATIONS = 0.02
ALIASES: Weights[Range] = (((0, 0), 0.12), ((1, 1), 0.80), ((2, 2), 0.05), ((3, 10), 0.025), ((11, 50), 0.005))
TAGS: Weights[Range] = (((0, 0), 0.25), ((1, 5), 0.45), ((6, 15), 0.27), ((16, 50), 0.03))
POLICY_STATEMENTS: Weights[Range] = (((1, 1), 0.35), ((3, 6), 0.50), ((7, 15), 0.12), ((16, 70), 0.03))
POLICY_NOT_DELEGATED = 0.03
LAST_USED: Weights[str] = (("recently", 0.63), ("long ago", 0.12), ("never", 0.05), ("unknown", 0.20))
GRANTS: Weights[Range] = (
    ((0, 0), 0.55),
    ((1, 5), 0.27),
    ((6, 50), 0.13),
    ((51, 500), 0.04),
    ((501, 5_000), 0.009),
    ((5_001, 50_000), 0.001),
)
"""50,000 is the documented quota. A practitioner reported several hundred grants on a key in 2018."""
GRANTS_OF_MANAGED = {"ebs": (18, 0.9, 0, 2_000), "rds": (4, 0.8, 0, 200), "dynamodb": (8, 0.8, 0, 200)}
GRANTEE_IS_SERVICE = 0.25
GRANT_NAMED = 0.45
GRANT_ISSUED_ELSEWHERE = 0.08
GRANTEE_DELETED = 0.05

# -- denials: most keys deny everything or nothing, and many policies do not list the newest operation
LOCKED = 0.02
DENIED_ALONE = {"GetKeyPolicy": 0.005, "ListGrants": 0.01, "ListResourceTags": 0.003, "DescribeKey": 0.003}
LAST_USAGE_DENIED = 0.30

# -- IAM principals of an account
IAM_USERS: Range = (0, 4)
IAM_ROLES: Range = (4, 40)

# -- resources per active account-region
SECRETS = (30, 1.3, 0, 20_000)
SECRETS_WITHOUT_KEY = 0.55
SECRETS_WITH_POLICY = 0.2
DATABASES = (4, 1.1, 0, 500)
SNAPSHOTS_A_DATABASE = (20, 35)
CACHES = (2, 1.0, 0, 200)
BUCKETS = (25, 1.2, 0, 10_000)
"""Per account. Above 10,000 buckets, ListBuckets must be paged (documented)."""
BUCKET_ENCRYPTION: Weights[str] = (("AES256", 0.60), ("default key", 0.20), ("customer key", 0.20))
REFERENCE_FORMS: Weights[str] = (
    ("key ARN", 0.86),
    ("key id", 0.05),
    ("alias name", 0.05),
    ("alias ARN", 0.03),
    ("sentinel", 0.01),
)
REFERENCE_TARGETS: Weights[str] = (
    ("own", 0.925),
    ("other account", 0.06),
    ("gone", 0.01),
    ("outside the organization", 0.005),
)
SENTINELS = ("auto", "AWS_OWNED_KMS_KEY", "AWS_OWNED_KEY", "DefaultKey", "DEFAULT", "S3_MANAGED_KEY")

# -- daily changes
KEY_CHANGES: Weights[str] = (
    ("state", 0.10),
    ("policy", 0.15),
    ("tag", 0.20),
    ("alias", 0.10),
    ("grant added", 0.15),
    ("grant removed", 0.10),
    ("created", 0.10),
    ("scheduled", 0.06),
    ("gone", 0.04),
)
RESOURCE_CHANGES: Weights[str] = (("re-keyed", 0.5), ("tag", 0.3), ("created", 0.1), ("gone", 0.1))

ACCOUNTS_WITH_TRAIL = 0.3
"""Share of accounts with a CloudTrail trail besides the organization trail."""
TRAILS_OF_ALL_REGIONS = 0.8
TRAILS_VALIDATED = 0.7
TRAILS_UNDER_KEY = 0.5
TRAILS_WITHOUT_KMS = 0.3
"""Share of trails that exclude KMS events."""
TRAILS_STOPPED = 0.05
