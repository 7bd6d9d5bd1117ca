# A robot's computer, and one to develop on, for amd64 and arm64:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --target robot -t dql_ros .
#   docker run --rm --network host --ipc host dql_ros dql doctor
#
# The first stage has ROS 2 and what builds; the second what a robot needs and no more: no torch, no
# simulator. `--build-arg EXTRAS=[sim]` adds an extra.
FROM ros:jazzy AS base
RUN apt-get update && apt-get install -y --no-install-recommends \
    python3-colcon-common-extensions \
    python3-venv \
    ros-jazzy-common-interfaces \
    ros-jazzy-launch-ros \
    ros-jazzy-lifecycle-msgs \
    ros-jazzy-rmw-fastrtps-cpp \
    ros-jazzy-ros2launch \
    && rm -rf /var/lib/apt/lists/*
SHELL ["/bin/bash", "-c"]

FROM base AS robot
ARG EXTRAS=
WORKDIR /workspace
COPY LICENSE README.md package.xml pyproject.toml setup.cfg setup.py src/dql_ros/
COPY config src/dql_ros/config
COPY dql_core src/dql_ros/dql_core
COPY dql_ros src/dql_ros/dql_ros
COPY launch src/dql_ros/launch
COPY resource src/dql_ros/resource
# ROS binaries load only the major numpy that they were built with, which is the system's.
RUN source /opt/ros/jazzy/setup.bash \
    && python3 -m venv --system-site-packages .venv \
    && .venv/bin/pip install --no-cache-dir "numpy<2" "src/dql_ros${EXTRAS}" \
    && .venv/bin/python -m colcon build --base-paths src/dql_ros
# So that the nodes of `ros2 run` and `ros2 launch`, and dql, are found in every shell.
ENV PATH=/workspace/.venv/bin:$PATH
RUN echo "source /workspace/install/setup.bash" >> /etc/bash.bashrc
CMD ["bash", "-c", "source /workspace/install/setup.bash && dql doctor"]

FROM base AS development
RUN apt-get update && apt-get install -y --no-install-recommends \
    git \
    make \
    ros-jazzy-launch-testing-ros \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /workspace/src/dql_ros
