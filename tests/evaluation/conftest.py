"""Runs that tests of several rooms look at, made once."""

from tests.support.runs import dataset as dataset
from tests.support.runs import whole_run as whole_run
