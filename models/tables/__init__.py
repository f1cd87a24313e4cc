"""All tables of the ledger, in one import. A test compares them with the migrations."""

from __future__ import annotations

from models.tables.access_analysis import *
from models.tables.findings import *
from models.tables.iam import *
from models.tables.keys import *
from models.tables.organization import *
from models.tables.resources import *
from models.tables.runs import *
from models.tables.trails import *
from models.versioned import Base as Base
from models.versioned import VersionedTable as VersionedTable
from models.versioned import versioned_tables as versioned_tables
