// Evaluates a program of experiments/in_page.py, and runs the page. Arrays are {shape, data}, data row-major.
"use strict";

const decodeBytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const floats = (text) => new Float32Array(decodeBytes(text).buffer);
const sizeOf = (shape) => shape.reduce((product, size) => product * size, 1);

function stridesOf(shape) {
  const strides = new Array(shape.length).fill(1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1] * shape[axis + 1];
  return strides;
}

// data[offset + sum_a index_a strides_a] over all indices of `shape`, as a new row-major array.
function gather(data, shape, strides, offset = 0) {
  const out = new Float32Array(sizeOf(shape)), index = new Array(shape.length).fill(0);
  for (let i = 0, place = offset; i < out.length; i++) {
    out[i] = data[place];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      place += strides[axis];
      if (++index[axis] < shape[axis]) break;
      place -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}

// Abramowitz & Stegun 7.1.26: to 1.5e-7.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - tail * Math.exp(-x * x));
}

const UNARY = {
  neg: (x) => -x, exp: Math.exp, exp2: (x) => 2 ** x, log: Math.log, log1p: Math.log1p, expm1: Math.expm1,
  tanh: Math.tanh, logistic: (x) => 1 / (1 + Math.exp(-x)), abs: Math.abs, sign: Math.sign, sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x), floor: Math.floor, ceil: Math.ceil, sin: Math.sin, cos: Math.cos,
  square: (x) => x * x, erf, truncate: Math.trunc, truth: (x) => +(x !== 0), not: (x) => 1 - x,
};
const BINARY = {
  add: (x, y) => x + y, sub: (x, y) => x - y, mul: (x, y) => x * y, div: (x, y) => x / y, pow: Math.pow,
  max: Math.max, min: Math.min, eq: (x, y) => +(x === y), ne: (x, y) => +(x !== y), lt: (x, y) => +(x < y),
  le: (x, y) => +(x <= y), gt: (x, y) => +(x > y), ge: (x, y) => +(x >= y),
};
const COMBINE = {
  sum: [0, (x, y) => x + y], max: [-Infinity, Math.max], min: [Infinity, Math.min],
};

const OPERATIONS = {
  rename: ({shape}, x) => ({shape, data: x.data}),
  integer_pow: ({shape, exponent}, x) => ({shape, data: x.data.map((value) => value ** exponent)}),
  select_n({shape}, which, ...cases) {
    const data = new Float32Array(sizeOf(shape));
    const at = (values, i) => values.length === 1 ? values[0] : values[i];
    const [chosen, ...options] = [which, ...cases].map((array) => fit(array, shape));
    for (let i = 0; i < data.length; i++) data[i] = at(options[at(chosen, i)], i);
    return {shape, data};
  },
  broadcast({shape, dimensions}, x) {
    const own = stridesOf(x.shape), strides = new Array(shape.length).fill(0);
    dimensions.forEach((axis, i) => { if (x.shape[i] > 1) strides[axis] = own[i]; });
    return {shape, data: gather(x.data, shape, strides)};
  },
  transpose({shape, permutation}, x) {
    const own = stridesOf(x.shape);
    return {shape, data: gather(x.data, shape, permutation.map((axis) => own[axis]))};
  },
  slice({shape, starts, strides}, x) {
    const own = stridesOf(x.shape), offset = starts.reduce((sum, start, axis) => sum + start * own[axis], 0);
    return {shape, data: gather(x.data, shape, own.map((stride, axis) => stride * strides[axis]), offset)};
  },
  place({shape, low}, x, data) {
    const strides = stridesOf(shape), own = stridesOf(x.shape);
    for (let i = 0; i < x.data.length; i++) {
      let rest = i, place = 0;
      for (let axis = 0; axis < shape.length; axis++) {
        const index = Math.floor(rest / own[axis]);
        rest -= index * own[axis];
        place += (index + low[axis]) * strides[axis];
      }
      data[place] = x.data[i];
    }
  },
  pad({shape, low}, x, value) {
    const data = new Float32Array(sizeOf(shape)).fill(value.data[0]);
    OPERATIONS.place({shape, low}, x, data);
    return {shape, data};
  },
  concatenate({shape, dimension}, ...parts) {
    const data = new Float32Array(sizeOf(shape)), low = new Array(shape.length).fill(0);
    for (const part of parts) {
      OPERATIONS.place({shape, low}, part, data);
      low[dimension] += part.shape[dimension];
    }
    return {shape, data};
  },
  reduce({shape, by, axes}, x) {
    const [start, combine] = COMBINE[by], kept = x.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const own = stridesOf(x.shape), order = [...kept, ...axes];
    const moved = gather(x.data, order.map((axis) => x.shape[axis]), order.map((axis) => own[axis]));
    const data = new Float32Array(sizeOf(shape)), width = moved.length / data.length;
    for (let i = 0; i < data.length; i++) {
      let value = start;
      for (let j = 0; j < width; j++) value = combine(value, moved[i * width + j]);
      data[i] = value;
    }
    return {shape, data};
  },
  dot({shape, left, right}, x, y) {
    const asMatrix = (array, first, second) => {
      const own = stridesOf(array.shape), order = [...first, ...second];
      if (order.every((axis, i) => axis === i)) return array.data;
      return gather(array.data, order.map((axis) => array.shape[axis]), order.map((axis) => own[axis]));
    };
    const free = (array, axes) => array.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const inner = sizeOf(left.map((axis) => x.shape[axis]));
    const a = asMatrix(x, free(x, left), left), b = asMatrix(y, right, free(y, right));
    const data = new Float32Array(sizeOf(shape)), rows = a.length / inner, columns = b.length / inner;
    for (let row = 0; row < rows; row++)
      for (let k = 0; k < inner; k++) {
        const value = a[row * inner + k];
        if (value === 0) continue;
        for (let column = 0, from = k * columns, to = row * columns; column < columns; column++)
          data[to + column] += value * b[from + column];
      }
    return {shape, data};
  },
};

// The data of an array as an operand of a result of `shape`: axes of one are repeated, a scalar is left as it is.
function fit(array, shape) {
  if (array.data.length === 1 || array.data.length === sizeOf(shape)) return array.data;
  const own = stridesOf(array.shape), missing = shape.length - array.shape.length;
  const strides = shape.map((_, axis) => axis < missing || array.shape[axis - missing] === 1 ? 0 : own[axis - missing]);
  return gather(array.data, shape, strides);
}

function evaluate(operation, inputs) {
  const {name, shape} = operation;
  if (name in UNARY) return {shape, data: inputs[0].data.map(UNARY[name])};
  if (!(name in BINARY)) return OPERATIONS[name](operation, ...inputs);
  const apply = BINARY[name], data = new Float32Array(sizeOf(shape)), [x, y] = inputs.map((input) => fit(input, shape));
  const every = [x.length === 1 ? 0 : 1, y.length === 1 ? 0 : 1];
  for (let i = 0; i < data.length; i++) data[i] = apply(x[i * every[0]], y[i * every[1]]);
  return {shape, data};
}

// A function of arrays from a program of experiments/in_page.py.
function compile(program) {
  const constants = program.constants.map(({id, shape, data}) => [id, {shape, data: floats(data)}]);
  return (...inputs) => {
    const values = new Map(constants);
    program.inputs.forEach((id, i) => values.set(id, inputs[i]));
    for (const operation of program.operations)
      values.set(operation.id, evaluate(operation, operation.inputs.map((id) => values.get(id))));
    return values.get(program.output);
  };
}

if (typeof module !== "undefined") module.exports = {compile};
