/* Columns of x, (rows, columns), from first on: y is (rows, count). */
static void part(int rows, int columns, int first, int count, const float *RESTRICT x,
                 float *RESTRICT y)
{
    int row;
    for (row = 0; row < rows; row++) {
        memcpy(y + row * count, x + row * columns + first, (size_t)count * sizeof *y);
    }
}
