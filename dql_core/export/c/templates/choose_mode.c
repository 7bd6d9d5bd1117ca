    seek_mode(decision->candidates, decision->q_values, scratch->points, scratch->weights,
              scratch->widths, scratch->nearest, action);
