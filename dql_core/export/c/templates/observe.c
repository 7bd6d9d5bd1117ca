    for (i = 0; i < ${PREFIX}_OBSERVATION_SIZE; i++) {
        ($target)[i] = observation[i];
    }
