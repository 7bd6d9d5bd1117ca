"""What a viewer shows of a robot: layouts for Foxglove and PlotJuggler, made from its contract."""
