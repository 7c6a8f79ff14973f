// Of the decoded speech, in Hz.

export const SAMPLE_RATE = 16000;
