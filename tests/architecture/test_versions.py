import re
from pathlib import Path
from xml.etree import ElementTree

import dql_core
import dql_ros

ROOT = Path(__file__).parents[2]


def test_all_four_places_state_the_same_version() -> None:
    package_xml = ElementTree.parse(ROOT / "package.xml").findtext("version")
    setup_py = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())
    assert setup_py is not None
    versions = {package_xml, setup_py[1], dql_core.__version__, dql_ros.__version__}
    assert len(versions) == 1, versions
