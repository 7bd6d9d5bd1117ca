"""Package of the dql_ros nodes and the dql command, for colcon (ament_python) and for pip."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "dql_ros"
DATA = ["gymnasium>=1.0", "h5py", "jinja2", "minari[arrow,hdf5]>=0.5.3", "pyarrow"]
CONVERT = [*DATA, "matplotlib"]
TRAIN = [*DATA, "onnx", "safetensors", "scipy", "tensorboard", "torch>=2.5"]
SIM = [
    "gymnasium>=1.0",
    "imageio",
    "imageio-ffmpeg",
    "matplotlib",
    "mujoco>=3.2",
    "pillow",
    "scipy",
]
# Ray Tune and Optuna, whose sampler proposes what it runs; what trains comes along.
SWEEP = [*TRAIN, "optuna>=4", "pandas", "ray[tune]"]
TEST = ["hypothesis", "pytest", "pytest-randomly", "pytest-rerunfailures", "pytest-xdist"]

setup(
    name=PACKAGE,
    version="0.1.0",
    description="From rosbags to a Diffusion-QL policy that drives a robot from a ROS 2 node.",
    long_description=Path(__file__).resolve().with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="dql_ros maintainers",
    maintainer="dql_ros maintainers",
    maintainer_email="maintainers@example.org",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["dql_core", "dql_core.*", "dql_ros", "dql_ros.*"]),
    package_data={
        "dql_core": [
            "py.typed",
            "page.html",
            "live_page.html",
            "evaluation/*/page.html",
            "export/c/templates/*",
            "sim/models/*.xml",
        ],
        "dql_ros": [
            "py.typed",
            "bag/messages/*.msg",
            "fastdds/*.xml",
            "convert/report/page.html",
            "demo/page.html",
        ],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*launch.[pxy][yma]*")),
        (f"share/{PACKAGE}/config/contracts", glob("config/contracts/*.yaml")),
        (f"share/{PACKAGE}/config/foxglove", glob("config/foxglove/*.json")),
        (f"share/{PACKAGE}/config/plotjuggler", glob("config/plotjuggler/*.xml")),
        (f"share/{PACKAGE}/config/train", glob("config/train/*.yaml")),
        (f"share/{PACKAGE}/config/train/d4rl", glob("config/train/d4rl/*.*")),
        (f"share/{PACKAGE}/config/security", glob("config/security/*.xml")),
        (f"share/{PACKAGE}/config/nodes", glob("config/nodes/*.yaml")),
    ],
    zip_safe=False,
    # What a robot needs: to run, replay and record. `dql_core.extras` has what the others bring.
    install_requires=[
        "lz4",
        "mcap>=1.6",
        "numpy",
        "onnxruntime",
        "pydantic>=2",
        "pyyaml",
        "rich",
        "rosbags>=0.11",
        "typer",
        "zstandard",
    ],
    extras_require={
        "convert": CONVERT,
        "train": TRAIN,
        "sim": SIM,
        "all": sorted({*CONVERT, *TRAIN, *SIM}),
        "ray": ["ray"],
        "sweep": SWEEP,
        # PushT of the benchmark suite.
        "suite": ["gym-pusht>=0.1.8", "pymunk<7"],
        "ros": ["ros-jazzy-rclpy[fastrtps]", "ros-jazzy-common-interfaces"],
        # The site of the documentation: `make site`.
        "docs": ["mkdocs", "mkdocs-material", "mkdocstrings[python]"],
        # By this name `colcon test` knows that the tests are pytest's.
        "test": TEST,
        "dev": [
            *TEST,
            "colcon-core",
            "colcon-python-setup-py",
            "colcon-ros",
            "mypy",
            "optuna>=4",
            "ray[tune]",
            "ruff",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": [
            "dql = dql_ros.cli.main:main",
            "policy_node = dql_ros.nodes.start:policy_node",
            "sim_bridge_node = dql_ros.nodes.start:sim_bridge_node",
            "recorder_node = dql_ros.nodes.start:recorder_node",
            "demonstrator_node = dql_ros.nodes.start:demonstrator_node",
        ]
    },
)
