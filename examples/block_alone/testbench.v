// Two decoders and a multiplier of `python -m gen.block`, used without the accelerator.
//
// pairs.hex holds a word for each pair of codes: {a, b, NaR, zero, sign, magnitude}, the magnitude
// of a*b in units of 2^-24, which every product of two posit8 is a multiple of.
`timescale 1ns / 1ps

module testbench;
  localparam PAIRS = 65536;
  localparam UNIT = 24;      // -log2 of the unit
  localparam FRACTION = 8;   // fraction bits of the product's significand, twice an operand's 4

  reg [82:0] expected [0:PAIRS - 1];
  reg [7:0] a, b;
  reg nar, zero, sign;
  reg [63:0] magnitude, found;
  reg [79:0] shifted;
  integer i, differ, numbers;

  wire a_nar, a_zero, a_sign, b_nar, b_zero, b_sign, p_nar, p_zero, p_sign;
  wire signed [4:0] a_exponent, b_exponent;
  wire [4:0] a_significand, b_significand;
  wire signed [5:0] p_exponent;
  wire [9:0] p_significand;

  decoder decode_a (.code(a), .is_nar(a_nar), .is_zero(a_zero), .sign(a_sign),
                    .exponent(a_exponent), .significand(a_significand));
  decoder decode_b (.code(b), .is_nar(b_nar), .is_zero(b_zero), .sign(b_sign),
                    .exponent(b_exponent), .significand(b_significand));
  multiplier multiply (
    .a_is_nar(a_nar), .a_is_zero(a_zero), .a_sign(a_sign), .a_exponent(a_exponent),
    .a_significand(a_significand),
    .b_is_nar(b_nar), .b_is_zero(b_zero), .b_sign(b_sign), .b_exponent(b_exponent),
    .b_significand(b_significand),
    .is_nar(p_nar), .is_zero(p_zero), .sign(p_sign), .exponent(p_exponent),
    .significand(p_significand));

  initial begin
    $readmemh("pairs.hex", expected);
    differ = 0;
    numbers = 0;
    for (i = 0; i < PAIRS; i = i + 1) begin
      {a, b, nar, zero, sign, magnitude} = expected[i];
      #1;
      // With a flag set, exponent and significand carry no meaning.
      shifted = {70'd0, p_significand} << (p_exponent + UNIT);
      found = shifted >> FRACTION;
      if (p_nar !== nar || (!nar && p_zero !== zero)
          || (!nar && !zero && (p_sign !== sign || found !== magnitude))) begin
        if (differ < 5)
          $display("%h * %h: NaR %b zero %b sign %b magnitude %0d, expected %b %b %b %0d",
                   a, b, p_nar, p_zero, p_sign, found, nar, zero, sign, magnitude);
        differ = differ + 1;
      end
      if (!nar && !zero) numbers = numbers + 1;
    end
    $display("pairs compared: %0d, numbers among them: %0d, mismatches: %0d",
             PAIRS, numbers, differ);
    $finish;
  end
endmodule
