    /* What is beyond the training data is moved to its edge, as in the bundle. */
    for (i = 0; i < ${PREFIX}_OBSERVATION_SIZE; i++) {
        const float value = observation[i];
        ($target)[i] =
            value < lowest_seen[i] ? lowest_seen[i] : (value > highest_seen[i] ? highest_seen[i] : value);
    }
