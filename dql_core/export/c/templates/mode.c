#define K ${PREFIX}_NUM_CANDIDATES
#define A ${PREFIX}_ACTION_SIZE
#define RANK (K / $fewest)

/* What most candidates agree on, the better ones the more: where their density, each with a weight
   by its value, is largest, found by mean shift (Comaniciu and Meer 2002). */
static void seek_mode(const float *RESTRICT candidates, const float *RESTRICT q_values,
                      double *RESTRICT points, double *RESTRICT weights, double *RESTRICT widths,
                      double *RESTRICT nearest, float *RESTRICT action)
{
    double mode[A], moved[A], mean, spread, best, total, density, doubled;
    int i, j, k, shift, densest = 0;

    /* In [-1, 1] along each axis. */
    for (k = 0; k < K; k++) {
        for (j = 0; j < A; j++) {
            const double low = (double)${prefix}_action_low[j], high = (double)${prefix}_action_high[j];
            points[k * A + j] =
                ((double)candidates[k * A + j] - (high + low) / 2.0) / ((high - low) / 2.0);
        }
    }

    /* What a softmax would draw each with. */
    mean = spread = total = 0.0;
    best = (double)q_values[0];
    for (k = 0; k < K; k++) {
        mean += (double)q_values[k] / (double)K;
        best = (double)q_values[k] > best ? (double)q_values[k] : best;
    }
    for (k = 0; k < K; k++) {
        spread += ((double)q_values[k] - mean) * ((double)q_values[k] - mean) / (double)K;
    }
    spread = $spread;
    for (k = 0; k < K; k++) {
        weights[k] = exp(((double)q_values[k] - best) / $temperature / spread);
        total += weights[k];
    }
    for (k = 0; k < K; k++) {
        weights[k] /= total;
    }

    /* The kernel's width: the median over the candidates of the distance within which one in $fewest
       is. All distances are squared. */
    for (k = 0; k < K; k++) {
        int kept = 0;
        double width;
        for (i = 0; i < K; i++) {
            double distance = 0.0;
            for (j = 0; j < A; j++) {
                const double difference = points[i * A + j] - points[k * A + j];
                distance += difference * difference;
            }
            if (kept > RANK && !(distance < nearest[RANK])) {
                continue;
            }
            for (j = kept > RANK ? RANK : kept; j > 0 && distance < nearest[j - 1]; j--) {
                nearest[j] = nearest[j - 1];
            }
            nearest[j] = distance;
            kept += kept <= RANK;
        }
        width = nearest[RANK];
        for (j = k; j > 0 && width < widths[j - 1]; j--) {
            widths[j] = widths[j - 1];
        }
        widths[j] = width;
    }
    doubled = K % 2 == 1 ? widths[K / 2] : (widths[K / 2 - 1] + widths[K / 2]) / 2.0;
    doubled = 2.0 * (doubled > $smallest ? doubled : $smallest);

    best = -1.0;
    for (k = 0; k < K; k++) {
        density = 0.0;
        for (i = 0; i < K; i++) {
            double distance = 0.0;
            for (j = 0; j < A; j++) {
                const double difference = points[i * A + j] - points[k * A + j];
                distance += difference * difference;
            }
            density += exp(-distance / doubled) * weights[i];
        }
        if (density > best) {
            best = density;
            densest = k;
        }
    }

    for (j = 0; j < A; j++) {
        mode[j] = points[densest * A + j];
    }
    for (shift = 0; shift < $shifts; shift++) {
        total = 0.0;
        for (j = 0; j < A; j++) {
            moved[j] = 0.0;
        }
        for (i = 0; i < K; i++) {
            double distance = 0.0, nearness;
            for (j = 0; j < A; j++) {
                const double difference = points[i * A + j] - mode[j];
                distance += difference * difference;
            }
            nearness = exp(-distance / doubled) * weights[i];
            total += nearness;
            for (j = 0; j < A; j++) {
                moved[j] += nearness * points[i * A + j];
            }
        }
        for (j = 0; j < A; j++) {
            mode[j] = moved[j] / total;
        }
    }

    for (j = 0; j < A; j++) {
        const float low = ${prefix}_action_low[j], high = ${prefix}_action_high[j];
        const float value = (float)(mode[j] * (((double)high - (double)low) / 2.0) +
                                    ((double)high + (double)low) / 2.0);
        action[j] = value < low ? low : (value > high ? high : value);
    }
}
