/* The index of the first of the largest of x, (count). */
static int largest(int count, const float *x)
{
    int best = 0, i;
    for (i = 1; i < count; i++) {
        if (x[i] > x[best]) {
            best = i;
        }
    }
    return best;
}
