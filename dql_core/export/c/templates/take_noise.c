        for (i = 0; i < ${PREFIX}_NUM_NOISES; i++) {
            memcpy($target + i * rows * ${PREFIX}_ACTION_SIZE,
                   noise->steps + (i * ${PREFIX}_NUM_CANDIDATES + first) * ${PREFIX}_ACTION_SIZE,
                   (size_t)(rows * ${PREFIX}_ACTION_SIZE) * sizeof(float));
        }
