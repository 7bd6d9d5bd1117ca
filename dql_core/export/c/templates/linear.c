/* y = a b + scale c: a is (rows, inner), b (inner, columns), c (c_rows, columns) where c_rows is
   rows or 1, y (rows, columns). Four rows and two lines of b at a time, so that each weight is read
   once for four candidates. */
static void linear(int rows, int inner, int columns, const float *RESTRICT a,
                   const float *RESTRICT b, float scale, const float *RESTRICT c, int c_rows,
                   float *RESTRICT y)
{
    int row, i, j;
    for (row = 0; row < rows; row++) {
        for (j = 0; j < columns; j++) {
            y[row * columns + j] = scale * c[(c_rows == 1 ? 0 : row * columns) + j];
        }
    }
    for (row = 0; row + 4 <= rows; row += 4) {
        const float *a0 = a + row * inner, *a1 = a0 + inner, *a2 = a1 + inner, *a3 = a2 + inner;
        float *RESTRICT y0 = y + row * columns, *RESTRICT y1 = y0 + columns;
        float *RESTRICT y2 = y1 + columns, *RESTRICT y3 = y2 + columns;
        for (i = 0; i + 2 <= inner; i += 2) {
            const float p0 = a0[i], p1 = a1[i], p2 = a2[i], p3 = a3[i];
            const float q0 = a0[i + 1], q1 = a1[i + 1], q2 = a2[i + 1], q3 = a3[i + 1];
            const float *RESTRICT p = b + i * columns, *RESTRICT q = p + columns;
            for (j = 0; j < columns; j++) {
                y0[j] += p0 * p[j] + q0 * q[j];
                y1[j] += p1 * p[j] + q1 * q[j];
                y2[j] += p2 * p[j] + q2 * q[j];
                y3[j] += p3 * p[j] + q3 * q[j];
            }
        }
        for (; i < inner; i++) {
            const float *RESTRICT p = b + i * columns;
            for (j = 0; j < columns; j++) {
                y0[j] += a0[i] * p[j];
                y1[j] += a1[i] * p[j];
                y2[j] += a2[i] * p[j];
                y3[j] += a3[i] * p[j];
            }
        }
    }
    for (; row < rows; row++) {
        float *RESTRICT y0 = y + row * columns;
        for (i = 0; i < inner; i++) {
            const float *RESTRICT p = b + i * columns;
            const float p0 = a[row * inner + i];
            for (j = 0; j < columns; j++) {
                y0[j] += p0 * p[j];
            }
        }
    }
}
