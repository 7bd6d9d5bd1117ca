/* Each row of x, (rows, columns), minus its mean and divided by its spread, times scale. */
static void normalized(int rows, int columns, const float *RESTRICT x,
                       const float *RESTRICT scale, float *RESTRICT y)
{
    int row, j;
    for (row = 0; row < rows; row++, x += columns, y += columns) {
        float sum = 0.0f, squares = 0.0f, mean, factor;
        for (j = 0; j < columns; j++) {
            sum += x[j];
        }
        mean = sum / (float)columns;
        for (j = 0; j < columns; j++) {
            squares += (x[j] - mean) * (x[j] - mean);
        }
        factor = 1.0f / sqrtf(squares / (float)columns + 1e-5f);
        for (j = 0; j < columns; j++) {
            y[j] = (x[j] - mean) * factor * scale[j];
        }
    }
}
